"""What we write is read back, by our own reader, as it was meant."""

from sam3.data.labelme_document import labelme_document, labelme_shape
from sam3.data.labelme_reader import read_labelme
from sam3.io.files import write_json


def test_a_written_document_is_read_back(tmp_path):
    shapes = [
        labelme_shape("Schraube ü", [(1, 2), (30.5, 2), (30.5, 40)], "polygon", group_id=3, description="score 0.9"),
        labelme_shape("nut", [[0, 0], [5, 6]], "rectangle"),
    ]
    write_json(tmp_path / "a.json", labelme_document(shapes, image_path="../photos/a.png", image_size=(48, 64)))
    read = read_labelme(tmp_path / "a.json")
    assert (read.image_path, read.size, read.has_image_data) == ("../photos/a.png", (48, 64), False)
    assert [(shape.label, shape.shape_type, shape.group_id) for shape in read.shapes] == [
        ("Schraube ü", "polygon", 3),
        ("nut", "rectangle", None),
    ]
    assert read.shapes[0].points.tolist() == [[1, 2], [30.5, 2], [30.5, 40]]
