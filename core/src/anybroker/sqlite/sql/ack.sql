-- A token belongs to one lease of one message, so that the two lists need not be matched up.
DELETE FROM messages
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND token IN (SELECT value FROM json_each(:tokens))
RETURNING token, ordering_key, queue
