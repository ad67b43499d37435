;; Hands on nothing, ten thousand times a call.

(func $hand-on
  (local $times i32)
  (loop $again
    (call $next (i32.const 16384) (i32.const 0))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 10000))))
  (call $next (i32.const 16384) (i32.sub (global.get $out) (i32.const 16384))))
