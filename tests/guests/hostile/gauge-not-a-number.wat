;; Sets a gauge to what is no number, and to infinity.

(import "sandbar:interceptor/telemetry@0.1.0" "gauge" (func $gauge (param i32 i32 i32 f64)))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $gauge (global.get $session) (i32.const 1280) (i32.const 5) (f64.const nan))
    (call $gauge (global.get $session) (i32.const 1280) (i32.const 3) (f64.const inf))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1))))
  (call $pass (local.get $frame)))
