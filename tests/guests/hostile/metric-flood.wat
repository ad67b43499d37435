;; Counts under a thousand new names for each packet.

(import "sandbar:interceptor/telemetry@0.1.0" "count" (func $count (param i32 i32 i32 i64)))
(global $number (mut i64) (i64.const 0))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (global.set $number (i64.add (global.get $number) (i64.const 1)))
    ;; Seven bits a byte, so that it is text.
    (i64.store (i32.const 4096) (i64.and (i64.mul (global.get $number) (i64.const 0x9e3779b97f4a7c15)) (i64.const 0x7f7f7f7f7f7f7f7f)))
    (call $count (global.get $session) (i32.const 4096) (i32.const 8) (i64.const -1))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1000))))
  (call $pass (local.get $frame)))
