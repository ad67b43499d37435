;; Holds every packet, and drops it.

(import "sandbar:interceptor/hold@0.1.0" "keep" (func $keep (param i32 i32)))
(import "sandbar:interceptor/hold@0.1.0" "discard" (func $discard (param i32 i64) (result i32)))

(func $packet (param $frame i32)
  (if (call $is-rtp (local.get $frame))
    (then
      (call $keep (i32.load offset=20 (local.get $frame)) (i32.const 256))
      (drop (call $discard (global.get $session) (i64.load (i32.const 264)))))
    (else (call $pass (local.get $frame)))))
