;; Publishes a hundred documents of thirty kilobytes for each packet.

(import "sandbar:interceptor/telemetry@0.1.0" "publish" (func $publish (param i32 i32 i32 i32 i32)))

(func $packet (param $frame i32)
  (local $times i32)
  (memory.fill (i32.const 131072) (i32.const 65) (i32.const 30000))
  (loop $again
    (call $publish (global.get $session) (i32.const 1280) (i32.const 5) (i32.const 131072) (i32.const 30000))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 100))))
  (call $pass (local.get $frame)))
