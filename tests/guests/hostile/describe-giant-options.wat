;; Has two hundred options with a key of a megabyte each, all of the same bytes.

(func $describe (result i32)
  (local $at i32)
  (drop (call $description))
  (memory.fill (i32.const 131072) (i32.const 0) (i32.const 9600))
  (memory.fill (i32.const 196608) (i32.const 65) (i32.const 1000000))
  (local.set $at (i32.const 131072))
  (loop $next
    (i32.store (local.get $at) (i32.const 196608))
    (i32.store offset=4 (local.get $at) (i32.const 1000000))
    (local.set $at (i32.add (local.get $at) (i32.const 48)))
    (br_if $next (i32.lt_u (local.get $at) (i32.const 140672))))
  (i32.store (i32.const 220) (i32.const 131072))
  (i32.store (i32.const 224) (i32.const 200))
  (i32.const 192))
