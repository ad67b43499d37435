;; Sets values under a key that is the host's.

(import "sandbar:interceptor/attributes@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i64 i32 i32)))
(data $key (i32.const 4096) "sandbar.repaired")

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $set (i32.load offset=20 (local.get $frame)) (i32.const 4096) (i32.const 16) (i32.const 1) (i32.const 0) (i64.const 1) (i32.const 0) (i32.const 256))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1))))
  (call $refused)
  (call $pass (local.get $frame)))
