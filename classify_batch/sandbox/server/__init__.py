"""The API over HTTP: requests are checked, admitted, answered, and struck by the faults that were asked for."""
