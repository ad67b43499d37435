;; Sets a thousand values on each packet.

(import "sandbar:interceptor/attributes@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i64 i32 i32)))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (i32.store (i32.const 4096) (i32.and (i32.mul (local.get $times) (i32.const 0x9e3779b9)) (i32.const 0x7f7f7f7f)))
    (call $set (i32.load offset=20 (local.get $frame)) (i32.const 4096) (i32.const 4) (i32.const 1) (i32.const 1) (i64.const 1) (i32.const 0) (i32.const 256))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1000))))
  (call $refused)
  (call $pass (local.get $frame)))
