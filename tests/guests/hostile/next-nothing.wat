;; Hands nothing on.

(func $hand-on)
