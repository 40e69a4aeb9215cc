"""The file storage and its parts."""

from .FileStorage import FileIterator, FileStorage, Record, TransactionRecord, packed_version

RecordIterator = TransactionRecord
