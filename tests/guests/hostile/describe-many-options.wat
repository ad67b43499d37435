;; Has ten thousand options.

(func $describe (result i32)
  (drop (call $description))
  (memory.fill (i32.const 131072) (i32.const 0) (i32.const 480000))
  (i32.store (i32.const 220) (i32.const 131072))
  (i32.store (i32.const 224) (i32.const 10000))
  (i32.const 192))
