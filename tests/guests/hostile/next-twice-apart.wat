;; Hands a packet on twice in two calls.

(func $hand-on
  (call $next (i32.const 16384) (i32.sub (global.get $out) (i32.const 16384)))
  (call $next (i32.const 16384) (i32.sub (global.get $out) (i32.const 16384))))
