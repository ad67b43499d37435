;; Lets go and discards what is not held.

(import "sandbar:interceptor/hold@0.1.0" "release" (func $release (param i32 i64 i32 i32 i32 i32 i32)))
(import "sandbar:interceptor/hold@0.1.0" "discard" (func $discard (param i32 i64) (result i32)))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $release (global.get $session) (i64.const -1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256))
    (call $refused)
    (drop (call $discard (i32.const -1) (i64.const 0)))
    (drop (call $discard (global.get $session) (i64.const 0x7fffffffffffffff)))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 100))))
  (call $pass (local.get $frame)))
