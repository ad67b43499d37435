;; Imports a sink without wanting it.

(import "sandbar:interceptor/sink@0.1.0" "write" (func $write (param i32 i32 i32 i32)))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $write (global.get $session) (i32.const 65536) (i32.const 8) (i32.const 256))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1))))
  (call $pass (local.get $frame)))
