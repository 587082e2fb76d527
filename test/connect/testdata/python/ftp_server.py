"""An FTP server by pyftpdlib with one user, till:
ftp_server.py ftp|ftps PORT FOLDER PASSWORD CERTIFICATES."""
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.servers import FTPServer

scheme, port, folder, password, certificates = sys.argv[1:]
handler = FTPHandler
if scheme == "ftps":
    handler = TLS_FTPHandler
    handler.certfile, handler.keyfile = certificates + "/server.pem", certificates + "/server.key"
    handler.tls_control_required = handler.tls_data_required = True
handler.authorizer = DummyAuthorizer()
handler.authorizer.add_user("till", password, folder, perm="elradfmw")
FTPServer(("127.0.0.1", int(port)), handler).serve_forever()
