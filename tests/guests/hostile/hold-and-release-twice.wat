;; Holds every packet, and lets it go twice.

(import "sandbar:interceptor/hold@0.1.0" "keep" (func $keep (param i32 i32)))
(import "sandbar:interceptor/hold@0.1.0" "release" (func $release (param i32 i64 i32 i32 i32 i32 i32)))

(func $packet (param $frame i32)
  (if (call $is-rtp (local.get $frame))
    (then
      (call $keep (i32.load offset=20 (local.get $frame)) (i32.const 256))
      (call $release (global.get $session) (i64.load (i32.const 264)) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 320))
      (call $release (global.get $session) (i64.load (i32.const 264)) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256))
      (call $refused))
    (else (call $pass (local.get $frame)))))
