;; Sets a timer a million times in one call.

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $wake-session (global.get $session) (i32.const 1) (i64.const 1) (i64.const 0))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1000000))))
  (call $pass (local.get $frame)))
