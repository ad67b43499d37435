;; Has more types than are compiled.

;; times 21000
(type (func (param i32 i64) (result i32)))
