;; Takes a while for every burst, and stays below its deadline.

(func $hand-on
  (call $spin (i32.const 2000000))
  (call $next (i32.const 16384) (i32.sub (global.get $out) (i32.const 16384))))
