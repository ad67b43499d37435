;; Asks for a random number without end.

(import "sandbar:interceptor/random@0.1.0" "next" (func $random (result i64)))
(global $wants i32 (i32.const 16))

(func $packet (param $frame i32)
  (loop $ever
    (drop (call $random))
    (br $ever)))
