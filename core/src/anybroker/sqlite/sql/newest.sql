SELECT IFNULL(MAX(seq), 0) FROM messages
