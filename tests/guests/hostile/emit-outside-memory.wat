;; Emits a payload that is not in its memory.

(import "sandbar:interceptor/emit-rtp@0.1.0" "emit" (func $emit (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(global $wants i32 (i32.const 1))

(func $packet (param $frame i32)
  (call $emit (i32.load offset=4 (local.get $frame)) (i32.add (local.get $frame) (i32.const 24)) (i32.const 12)
    (i32.const 0) (i32.const 4096) (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256)))
