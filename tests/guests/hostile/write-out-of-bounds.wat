;; Writes behind the end of its memory.

(func $packet (param $frame i32)
  (memory.fill (local.get $frame) (i32.const 0) (i32.const -1)))
