;; Asks for the values of packets that are not in the call, and sets some.

(import "sandbar:interceptor/attributes@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i64 i32 i32)))
(import "sandbar:interceptor/attributes@0.1.0" "all" (func $all (param i32 i32)))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $all (i32.add (i32.const 1000000) (local.get $times)) (i32.const 256))
    (call $set (i32.sub (i32.const -1) (local.get $times)) (i32.const 1280) (i32.const 5) (i32.const 1) (i32.const 1) (i64.const 1) (i32.const 0) (i32.const 256))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 100))))
  (call $refused)
  (call $pass (local.get $frame)))
