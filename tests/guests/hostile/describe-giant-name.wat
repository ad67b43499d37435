;; Has a name of a megabyte.

(func $describe (result i32)
  (drop (call $description))
  (memory.fill (i32.const 131072) (i32.const 65) (i32.const 1000000))
  (i32.store (i32.const 192) (i32.const 131072))
  (i32.store (i32.const 196) (i32.const 1000000))
  (i32.const 192))
