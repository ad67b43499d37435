;; Wants to stamp a header extension that was not negotiated.

(global $access i32 (i32.const 2))
(global $view i32 (i32.const 9))
