;; Saves a state that is larger than the host keeps.

(func $save (result i32)
  (i32.store8 (i32.const 128) (i32.const 1))
  (i32.store (i32.const 132) (i32.const 65536))
  (i32.store (i32.const 136) (i32.const 2000000))
  (i32.const 128))
