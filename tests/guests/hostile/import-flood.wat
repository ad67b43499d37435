;; Asks for the time and a random number a thousand times for each packet.

(import "sandbar:interceptor/random@0.1.0" "next" (func $random (result i64)))
(global $wants i32 (i32.const 16))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (drop (call $random))
    (drop (call $now))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1000))))
  (call $pass (local.get $frame)))
