;; Wants a history of as many packets as a number can say.

(global $history i32 (i32.const -1))
