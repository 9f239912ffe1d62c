"""The API over HTTP: requests are checked, admitted and answered, and meet the faults that were asked for."""
