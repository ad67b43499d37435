;; Looks up packets of streams that have no history, and of streams that there are not.

(import "sandbar:interceptor/history@0.1.0" "lookup" (func $lookup (param i32 i32 i32)))

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (call $lookup (i32.load offset=4 (local.get $frame)) (local.get $times) (i32.const 256))
    (call $lookup (i32.sub (i32.const 0) (local.get $times)) (local.get $times) (i32.const 256))
    (if (i32.load8_u (i32.const 256)) (then (unreachable)))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 100))))
  (call $pass (local.get $frame)))
