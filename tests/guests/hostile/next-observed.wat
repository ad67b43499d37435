;; Hands on what it only observes.

(global $access i32 (i32.const 1))
