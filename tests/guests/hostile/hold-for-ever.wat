;; Holds every packet, and lets none go.

(import "sandbar:interceptor/hold@0.1.0" "keep" (func $keep (param i32 i32)))

(func $packet (param $frame i32)
  (if (call $is-rtp (local.get $frame))
    (then (call $keep (i32.load offset=20 (local.get $frame)) (i32.const 256)))
    (else (call $pass (local.get $frame)))))
