;; Emits two thousand reports for each packet.

(import "sandbar:interceptor/emit-rtcp@0.1.0" "emit" (func $emit-rtcp (param i32 i32 i32 i32)))
(global $wants i32 (i32.const 2))
(data $report (i32.const 4096) "\80\c9\00\01\00\00\00\c9")

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $emit-rtcp (global.get $session) (i32.const 4096) (i32.const 8) (i32.const 256))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 2000))))
  (call $refused)
  (call $pass (local.get $frame)))
