;; Saves a state of sixteen megabytes.

(func $save (result i32)
  (drop (memory.grow (i32.const 300)))
  (i32.store8 (i32.const 128) (i32.const 1))
  (i32.store (i32.const 132) (i32.const 131072))
  (i32.store (i32.const 136) (i32.const 16777216))
  (i32.const 128))
