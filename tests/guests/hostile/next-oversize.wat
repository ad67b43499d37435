;; Adds to each header so that the packet no longer fits the MTU.

(func $packet (param $frame i32)
  (local $head i32)
  (local.set $head (global.get $out))
  (call $pass-whole (local.get $frame))
  (if (call $is-rtp (local.get $frame))
    (then
      (i32.store16 offset=2 (local.get $head) (i32.const 1116))
      (i32.store8 offset=24 (local.get $head) (i32.const 0x90))
      ;; An extension of 275 words.
      (i32.store offset=36 (local.get $head) (i32.const 0x1301debe))
      (memory.fill (i32.add (local.get $head) (i32.const 40)) (i32.const 0) (i32.const 1100))
      (global.set $out (i32.add (local.get $head) (i32.const 1140))))))
