;; Wants to be shown media without having said so.

(global $view i32 (i32.const 1))
