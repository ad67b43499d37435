;; Counts under a name of a megabyte.

(import "sandbar:interceptor/telemetry@0.1.0" "count" (func $count (param i32 i32 i32 i64)))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (memory.fill (i32.const 131072) (i32.const 65) (i32.const 1000000))
    (call $count (global.get $session) (i32.const 131072) (i32.const 1000000) (i64.const 1))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1))))
  (call $pass (local.get $frame)))
