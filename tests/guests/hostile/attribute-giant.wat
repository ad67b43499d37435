;; Puts a value of two megabytes on each packet.

(import "sandbar:interceptor/attributes@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i64 i32 i32)))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $set (i32.load offset=20 (local.get $frame)) (i32.const 1280) (i32.const 5) (i32.const 1) (i32.const 4) (i64.const 131072) (i32.const 2000000) (i32.const 256))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1))))
  (call $refused)
  (call $pass (local.get $frame)))
