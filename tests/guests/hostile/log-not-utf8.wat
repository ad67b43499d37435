;; Logs bytes that are no text.

(import "sandbar:interceptor/telemetry@0.1.0" "log" (func $log (param i32 i32 i32 i32)))
(data $line (i32.const 4096) "\ff\fe\80")

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $log (global.get $session) (i32.const 0) (i32.const 4096) (i32.const 3))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1))))
  (call $pass (local.get $frame)))
