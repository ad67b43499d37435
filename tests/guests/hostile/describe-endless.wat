;; Has as many options as a number can say.

(func $describe (result i32)
  (drop (call $description))
  (i32.store (i32.const 224) (i32.const -1))
  (i32.const 192))
