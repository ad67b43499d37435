;; Emits from a history that it does not have.

(import "sandbar:interceptor/emit-rtp@0.1.0" "emit" (func $emit (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(global $wants i32 (i32.const 1))

(func $packet (param $frame i32)
  (call $emit (i32.load offset=4 (local.get $frame)) (i32.add (local.get $frame) (i32.const 24)) (i32.const 12)
    (i32.const 1) (i32.load16_u offset=22 (local.get $frame)) (i32.const 4096) (i32.const 8000) (i32.const 0) (i32.const 0) (i32.const 256))
  (if (call $is-rtp (local.get $frame)) (then (call $refused)))
  (call $pass (local.get $frame)))
