;; Answers a bind with an access that there is not.

(global $access i32 (i32.const 9))
