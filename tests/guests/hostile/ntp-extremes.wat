;; Asks for the wall-clock time at the first and the last instant that there is.

(import "sandbar:interceptor/wall-clock@0.1.0" "ntp" (func $ntp (param i64) (result i64)))
(global $wants i32 (i32.const 8))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (drop (call $ntp (i64.const 0)))
    (drop (call $ntp (i64.const -1)))
    (drop (call $ntp (i64.const 0x8000000000000000)))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1))))
  (call $pass (local.get $frame)))
