;; Answers a question with sixteen megabytes.

(func $control (result i32)
  (drop (memory.grow (i32.const 300)))
  (memory.fill (i32.const 131072) (i32.const 65) (i32.const 16777216))
  (i32.store8 (i32.const 160) (i32.const 0))
  (i32.store (i32.const 164) (i32.const 131072))
  (i32.store (i32.const 168) (i32.const 16777216))
  (i32.const 160))
