"""The fifteen laws of a broker, one class of tests each."""
