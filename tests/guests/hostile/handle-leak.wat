;; Makes a thousand handles for each packet, and gives none back.

(func $packet (param $frame i32)
  (local $times i32)
  (loop $again
    (drop (call $new (i32.const 7)))
    (local.set $times (i32.add (local.get $times) (i32.const 1)))
    (br_if $again (i32.lt_u (local.get $times) (i32.const 1000))))
  (call $pass (local.get $frame)))
