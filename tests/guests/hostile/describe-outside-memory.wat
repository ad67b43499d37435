;; Has options that are not in its memory.

(func $describe (result i32)
  (drop (call $description))
  (i32.store (i32.const 220) (i32.const -8))
  (i32.store (i32.const 224) (i32.const 1))
  (i32.const 192))
