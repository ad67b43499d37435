;; Emits packets under the SSRC of somebody else.

(import "sandbar:interceptor/emit-rtp@0.1.0" "emit" (func $emit (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(global $wants i32 (i32.const 1))

(func $packet (param $frame i32)
  (local $times i32)
  (if (call $is-rtp (local.get $frame)) (then
    (i32.store offset=32 (local.get $frame) (i32.const 0x64000000))
    (loop $again
    (call $emit (i32.load offset=4 (local.get $frame)) (i32.add (local.get $frame) (i32.const 24)) (i32.const 12)
      (i32.const 0) (i32.const 4096) (i32.const 100) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1))))
    (call $refused)))
  (call $pass (local.get $frame)))
