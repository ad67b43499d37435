;; Answers packets without end, and takes a while for each answer.

(import "sandbar:interceptor/emit-rtp@0.1.0" "emit" (func $emit (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(import "sandbar:interceptor/emit-rtcp@0.1.0" "emit" (func $emit-rtcp (param i32 i32 i32 i32)))
(global $wants i32 (i32.const 3))
(global $remote (mut i32) (i32.const 0))
(data $header (i32.const 4096) "\80\60\00\00\00\00\00\00\00\00\00\c8")
(data $report (i32.const 4112) "\80\c9\00\01\00\00\00\c9")

(func $bind (param $stream i32) (result i32)
  ;; The remote stream comes first.
  (if (i32.eqz (global.get $remote)) (then (global.set $remote (local.get $stream))))
  (call $binding (local.get $stream)))

(func $packet (param $frame i32)
  (local $kind i32)
  (local.set $kind (i32.load8_u (local.get $frame)))
  (if (i32.eq (local.get $kind) (i32.const 3))
    ;; RTCP to the peer: answered with RTP towards the application.
    (then (call $emit (global.get $remote) (i32.const 4096) (i32.const 12)
      (i32.const 0) (i32.const 4096) (i32.const 100) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256)))
    ;; Anything else: with RTCP to the peer.
    (else (call $emit-rtcp (global.get $session) (i32.const 4112) (i32.const 8) (i32.const 256))))
  (call $pass (local.get $frame)))

(func $hand-on
  (call $spin (i32.const 1000000))
  (call $next (i32.const 16384) (i32.sub (global.get $out) (i32.const 16384))))
