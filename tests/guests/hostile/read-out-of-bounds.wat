;; Reads behind the end of its memory.

(func $packet (param $frame i32)
  (drop (i32.load offset=4294967292 (local.get $frame))))
