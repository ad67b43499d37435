;; Leaves bytes behind the header that it puts in place.

(func $packet (param $frame i32)
  (local $head i32)
  (local.set $head (global.get $out))
  (call $pass-whole (local.get $frame))
  (if (call $is-rtp (local.get $frame))
    (then
      (i32.store16 offset=2 (local.get $head) (i32.const 16))
      (global.set $out (i32.add (global.get $out) (i32.const 4))))))
