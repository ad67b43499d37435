;; Logs at a level that there is not.

(import "sandbar:interceptor/telemetry@0.1.0" "log" (func $log (param i32 i32 i32 i32)))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $log (global.get $session) (i32.const 9) (i32.const 1280) (i32.const 5))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1))))
  (call $pass (local.get $frame)))
